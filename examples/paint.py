"""Paint from a chat, look at the plan, and paint again with one thing changed. Run: python examples/paint.py"""

import vernissage as vs

picture = vs.paint("two yellow stars over the sea at night, neon please")
print(picture.plan.prompt, picture.plan.model, picture.plan.arguments)
picture.save("stars.png")

again = vs.paint(prompt=picture.plan.prompt, model="mini/watercolour", seed=1)
again.save("stars-watercolour.png")
