"""From human ratings to opinion scores, and to judges of pictures."""
