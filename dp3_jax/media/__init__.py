"""Everything that reads or writes pixels: photos, image sequences, video files, cameras, streams."""
