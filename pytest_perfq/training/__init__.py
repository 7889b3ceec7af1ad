"""Fine-tuning, deterministic and cached by content. Knows tasks only by what they hand over: rows that carry their labels."""
