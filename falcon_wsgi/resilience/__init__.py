"""Guard, deadline and admission limit."""
