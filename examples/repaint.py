"""Let a model paint a picture again and look at the rounds. Run: python examples/repaint.py"""

import vernissage as vs
from vernissage.records.verdict import Score
from vernissage.repainting.drawing import draw_strip

reference = vs.paint("two yellow stars over the sea at night, neon please")
regeneration, pictures = vs.repaint(reference, model="mini/early", rounds=4, candidates=3)
for each in regeneration.rounds:
    best = each.candidates[each.best]
    clip = best.scores["clip"]
    print(each.number, each.aspect, f"{clip.value:.3f}" if isinstance(clip, Score) else clip.reason, best.prompt)
draw_strip(reference.image, regeneration, pictures).save("strip.png")
