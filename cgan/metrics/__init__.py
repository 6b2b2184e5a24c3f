"""What samples are worth: one metric a file, on arrays, integer labels and callables. Reads no files."""
