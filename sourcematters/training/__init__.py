"""From image files to a fine-tuned network: image bank, batches, classifier, fine-tuning."""
