"""What everything stands on: errors, files, fetched assets, arrays of pixels, the console, threads."""
