"""What a training shows: log, curve, sheets of samples, report, progress bar and memory."""
