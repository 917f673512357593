"""The HTTP face: routes, schemas, problem documents."""
