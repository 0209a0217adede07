"""One weight per channel: similarities of conditions as weighted sums of those of single channels."""
