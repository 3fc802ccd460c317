"""What every stage shares: errors, settings, units, progress, whole files. No audio, no model."""
