"""What every stage shares: errors, settings, units, progress, atomic files. No audio, no model."""
