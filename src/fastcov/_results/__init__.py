"""Results that users see: fits, scores of held-out conditions and verdicts, as tables, frames and files."""
