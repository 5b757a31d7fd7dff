"""The mini world: scenes with exact truth, drawing them, talking about them, checking pictures of them."""
