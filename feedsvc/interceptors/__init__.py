"""The interceptors around every call: admission, decoding, validation, errors."""
