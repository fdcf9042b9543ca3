"""Is a sample's answer right, and is its reasoning right: verdicts, step checker, models as judges, votes, people."""
