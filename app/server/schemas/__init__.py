"""What goes over the wire, as msgspec structs: they read requests, write answers, and make the OpenAPI
document."""
