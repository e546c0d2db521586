"""The generated world: many kinds of motion in scenes where nothing else tells the class.

`kinds` names the motions and makes their tracks from `paths`, `changes`, `figure_motions` and
`pair_motions`; `bodies`, `backdrops` and `camera` choose everything else at random; `scene` puts a
clip together, and `paint` paints it.
"""
