"""The bare-metal stack: nginx before several instances on one machine, started and watched without Docker or root."""
