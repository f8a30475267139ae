"""Pure functions between the wire's shapes and the engine's."""
