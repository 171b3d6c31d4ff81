"""The handlers of the contract's services: check, call the core, convert."""
