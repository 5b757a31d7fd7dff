"""The zoo: model cards as data, and what can be added to them."""
