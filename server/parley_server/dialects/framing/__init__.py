"""From bytes to frames: one module per way of cutting a stream."""
