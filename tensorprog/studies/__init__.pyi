from tensorprog.studies.convergences import convergence as convergence
from tensorprog.studies.drifts import drift as drift
from tensorprog.studies.ntktrains import ntktrain as ntktrain
from tensorprog.studies.phases import critical as critical
from tensorprog.studies.phases import phase as phase
from tensorprog.studies.sensitivities import sensitivity as sensitivity
from tensorprog.studies.study import Study as Study
from tensorprog.studies.variances import variance as variance
