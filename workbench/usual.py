"""What is read of a text when nobody says otherwise: the same in the browser and in the shell, so that each finds what
the other computed. Studies that are called from Python have defaults of their own (`studies.texts`). No torch here."""

TOKENS = 4096
WINDOW = 256
