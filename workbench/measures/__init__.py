"""What quantization costs: of a weight, of a layer's output, of the model's predictions. Pure functions of tensors."""
