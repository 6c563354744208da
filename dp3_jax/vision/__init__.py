"""Images as arrays: the canonical face frame, masks, optical flow, warping, losses, augmentation."""
