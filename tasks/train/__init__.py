"""Full or LoRA fine-tuning, or the model as it is."""
