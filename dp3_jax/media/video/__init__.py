"""Video files: probing, decoding, colours, encoding, sound and subtitles."""
