"""OpenAI's wire, one file a resource. Handlers are thin: read, refuse what is not honoured, ask, answer."""
