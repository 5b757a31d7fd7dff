"""From a reference picture to words, and by rounds of painting back to the picture."""
