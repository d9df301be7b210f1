"""rigorl: experiments on learning agents that would survive a hostile referee.

Read the house from the ground up; a file imports only from lines above its own.
`docs/house.md` says why it stands so.

    seeds       where every random number comes from
    errors      what can go wrong, and how we say it
    crash       named places to die at, for tests that kill
    spec        what an experiment is         (the only thing a person writes)
    trial       what travels between machines (the only thing a machine writes)
    tasks       where agents act and are examined
    plan        spec -> trials, and their order
    search      how a configuration is chosen
    growth      what a study may become
    contract    what the platform asks of an algorithm
    checkpoint  where a run stands, kept so that it is there whole or not at all
    blocks      parts that agents are built of
    analysis    reports -> numbers one may print
    agents      one file, one algorithm
    run         one trial, played on one machine
    experiment  the story: tune, examine, judge
    estimate    what the story will cost
    report      verdict -> page
    figures     curves, candidates -> figures
    outside     one room for each foreign system
    pictures    what a study looks like
    arguments   the words of the command line
    opening     what these words open
    telling     what is told in the end
    remote      what is asked of a study that another machine plays
    cli         the front door
"""
