"""Floor 2: labelled frames in files, on disk and in batches."""
