"""Where faces are: in a picture, from frame to frame, and how they are turned."""
