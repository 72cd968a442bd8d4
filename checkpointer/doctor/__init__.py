"""`checkpointer doctor`: would this node come back, and if not, what is to be done.

`gather` looks, each look with a deadline; `facts` is what it saw; `checks` judge that and touch
nothing; `readiness` is the one line that an operator reads before `reboot`.
"""
