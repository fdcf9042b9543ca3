"""SFT sets from verified samples, finetuning, checkpoint selection and evaluation."""
