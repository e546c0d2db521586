"""A fitted model for use elsewhere: ONNX, open_clip weights, a model card, the Hugging Face Hub."""
