"""How it runs: command line, embedded stack, screen, rules, city packs."""
