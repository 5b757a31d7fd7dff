"""The trained judge: a multimodal language model with adapters and regression heads."""
