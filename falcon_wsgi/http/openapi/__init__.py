"""The OpenAPI 3.1 document: what each route takes and answers, for the models that this worker serves."""
