"""Objectives: what training minimises, each a callable `(flow, x, context) -> Loss`."""
