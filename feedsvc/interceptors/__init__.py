"""What stands around every call: admission, decoding, validation, errors."""
