"""Admission: which waiting gangs start now, where, and when the others are expected to."""
