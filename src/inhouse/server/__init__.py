"""The gateway: HTTP in, engine socket and store out. It knows text, keys and jobs; it knows no tensor."""
