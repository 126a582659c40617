"""HTTP: the middleware, the policy that rejects requests before the framework runs, and the framework adapters."""
