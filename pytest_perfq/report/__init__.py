"""What people and other programs read: terminal tables, explanations, model cards, exports. Decides nothing."""
