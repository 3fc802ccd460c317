"""Reasons -> what people and pages get: sentences, numbers, pictures, arrays."""
