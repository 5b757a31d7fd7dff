"""The painting road: from a chat to a plan to a picture."""
