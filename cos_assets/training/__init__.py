"""From verified samples to a finetuned model and its scores: SFT sets, finetuning, checkpoint selection, evaluation."""
