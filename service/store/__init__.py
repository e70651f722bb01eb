"""Where everything is kept: `contract` is the promise, one package a database keeps it."""
