"""Sets of pictures and prompts to measure with: found, built, split."""
