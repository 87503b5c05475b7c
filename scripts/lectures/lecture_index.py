"""Everything in the lecture notes: where they are wrong, the command that demonstrates it, and which rows of its result do.

A command is the name of a result, below; `docs/lectures.md` is generated from this table and the results' JSON.
"""

from __future__ import annotations

from typing import NamedTuple

SECTIONS = {
    "0": "Reinforcement learning",
    "1a": "Data, regression, classification",
    "1b": "Perceptrons, activations, initial weights, regularization",
    "1c": "Optimizers",
    "1d": "Convolutional networks",
    "1e": "Recurrent networks",
}


class Item(NamedTuple):
    """A topic of the notes. shows: how the names of its rows begin; remark: where a note is wrong, and what is right."""

    section: str
    what: str
    note: str
    result: str
    shows: tuple[str, ...] = ()
    remark: str = ""


LAKE = "train_frozenlake.py"
# Results that are not an experiment of train_supervised.py: the command, with the short settings that a test runs it with.
COMMANDS: dict[str, tuple[str, str]] = {
    "frozenlake": (LAKE, "--steps 2000 --seeds 2"),
    "frozenlake-dummy": (f"{LAKE} --no-is-slippery --agent lecture-dummy --steps 20000", "--steps 2000 --seeds 2"),
    "frozenlake-epsilon": (f"{LAKE} --no-is-slippery --agent lecture-epsilon --steps 20000", "--steps 2000 --seeds 2"),
    "frozenlake-noise": (f"{LAKE} --no-is-slippery --agent lecture-noise --steps 20000", "--steps 2000 --seeds 2"),
    "frozenlake-slippery": (f"{LAKE} --agent lecture-slippery", "--steps 2000 --seeds 2"),
    "frozenlake-network": (f"{LAKE} --no-is-slippery --agent q-network", "--steps 500 --seeds 2"),
    "cartpole-best": ("train.py CartPole-v1 --seeds 10 --workers 2", "--steps 300 --seeds 2 --workers 1 --episodes 2"),
    "mnist-cnn-simple": (
        "train_supervised.py mnist-cnn --nets simple",
        "--data digits --threads 1 --seeds 1 --epochs 1",
    ),
    "atari": (
        "train.py envs.atari:Atari/Breakout-v5 --agent dqn-2015 --seeds 1 --steps 4000 --evaluate-every-steps 4000 --episodes 2",
        "--steps 60 --set learn_after_steps=20 batch_size=4 --evaluate-every-steps 1000 --episodes 1",
    ),
    "caption-mnist": (
        "train_supervised.py caption --data mnist --epochs 4",
        "--data digits --threads 1 --seeds 1 --epochs 1 --pictures 100",
    ),
    "compare-lectures": ("compare.py lectures", "--steps 300 --seeds 2"),
}

ITEMS = (
    # ---- 0 ----------------------------------------------------------------------------------------------------------
    Item("0", "Agent, environment, state, action, reward; Gym's games", "-", "frozenlake", ("success",)),
    Item(
        "0",
        "Q(s, a), and the policy that takes its argmax",
        "pi*(s) = argmax Q(s, a)",
        "frozenlake",
        ("best stationary", "seeds near"),
    ),
    Item(
        "0",
        "The Q-learning algorithm; dummy Q-learning on ice that is not slippery",
        "r + max Q(s', a'), 2 000 episodes",
        "frozenlake-dummy",
        ("success", "best stationary"),
    ),
    Item(
        "0",
        "Exploitation and exploration; decaying epsilon-greedy",
        "epsilon 1 / (episode // 100 + 1)",
        "frozenlake-epsilon",
        ("success",),
        "With ties broken in favor of the first action, as in the lecture's code, some seeds never find the goal.",
    ),
    Item("0", "Decaying noise on Q", "argmax(Q + randn / (episode + 1))", "frozenlake-noise", ("success",)),
    Item("0", "Exploration compared", "words", "compare-lectures", ("Exploring",)),
    Item("0", "Discounted future reward", "gamma .9 (text), .99 (code)", "compare-lectures", ("Discounting",)),
    Item(
        "0",
        "Slippery ice, step size below 1",
        "(1 - a) Q + a (r + gamma max Q'), a = .85",
        "frozenlake-slippery",
        ("success", "best stationary"),
        "With a constant step size values never settle; one that decays with the visits reaches the optimum (`train_frozenlake.py`).",
    ),
    Item("0", "Step size 1 against .85 on slippery ice", "words", "compare-lectures", ("Step size",)),
    Item(
        "0",
        "Q-network on FrozenLake: a linear layer on one-hot states",
        "SGD .1, squared loss on one row",
        "frozenlake-network",
        ("success",),
    ),
    Item(
        "0",
        "Q-network on CartPole, and why it fails; DQN 2013: replay; DQN 2015: a target network",
        "the first fails, the last does not",
        "compare-lectures",
        ("CartPole",),
        "DQN 2013 uses the squared error, as its paper and the lecture's code do. With errors clipped to 1 and no target network, its"
        " predictions grow without bound: the many steps that do not end an episode push values up, and the few large errors that"
        " should pull them down are clipped to 1. Predicted and obtained returns are discounted, over the last 100 training episodes.",
    ),
    Item("0", "CartPole solved", "solved", "cartpole-best", ("return",)),
    Item(
        "0",
        "Q-networks reuse regression, softmax, CNN and RNN",
        "design",
        "cartpole-best",
        (),
        'Regression and CNN are reused: `network="linear"` is `supervised.LinearRegression`, "mlp(64,64)" its `MLP`, "cnn(16,32)" and'
        ' "nature" its `CNN`; `rl.networks.on_trunk` starts from a fitted trunk, such as that of a softmax classifier. So is the RNN:'
        ' "gru(64)", "lstm(64)" and "rnn(64)" have its trunk, `on_trunk` takes a fitted one, and the presets `drqn` and `r2d2` learn with it'
        " (`train.py envs/MemoryChain-v0 --agent drqn`). Softmax regression as a whole is not reused: no agent's network ends in a softmax.",
    ),
    # ---- 1a ---------------------------------------------------------------------------------------------------------
    Item(
        "1a",
        "Linear regression in one variable",
        "H(x) = W x + b, cost = mean((H - y)²)",
        "linear",
        ("W fitted", "b fitted"),
    ),
    Item("1a", "The cost as a curve and as a surface; convexity", "W = 1 is lowest", "linear", ()),
    Item(
        "1a",
        "Gradient descent, step by step",
        '5, 1.2667, 1.0178, 1.0012, 1.00008; "6 steps"',
        "linear",
        ("W from 5, step 1", "W from 5, step 2", "W from 5, step 3", "W from 5, step 4", "W from -3"),
        "The lecture's gradient by hand leaves out the factor 2 of the squared error's derivative: its steps are half as long.",
    ),
    Item("1a", "The factor 2 left out", "5, 3.133, 2.138", "linear", ("the factor 2",)),
    Item(
        "1a",
        "Newton-Raphson, posed as a question",
        "-",
        "linear",
        ("Newton",),
        "On a parabola one step of Newton's method finds the minimum from any start.",
    ),
    Item(
        "1a",
        "Several inputs, in matrix form",
        "exam scores, rate 1e-5",
        "multivariable",
        ("five students: cost", "five students: score"),
    ),
    Item(
        "1a",
        "File input, slicing, queue runner",
        "25 x 4 scores",
        "multivariable",
        ("rows, columns", "the file's students: cost"),
        "Queue runners no longer exist; data in memory need none.",
    ),
    Item(
        "1a",
        "Logistic regression, sigmoid, decision boundary, cross-entropy",
        "six points; diabetes, 759 x 9",
        "logistic",
        ("six students: accuracy", "diabetes", "breast"),
    ),
    Item(
        "1a",
        "Softmax classifier",
        "8 x 4, three classes; zoo, 101 x 17",
        "softmax",
        ("eight rows: accuracy", "zoo: accuracy", "wine"),
        'S0 and S2 call grades A to F "multi-label"; since each student has one grade, the task is multi-class.',
    ),
    Item("1a", "Softmax and sigmoid", "softmax adds up to 1", "softmax", ("probabilities", "three sigmoids")),
    Item(
        "1a",
        "Supervised and unsupervised; regression, yes or no, several classes",
        "words",
        "unsupervised",
        ("softmax", "k-means"),
        "k-means finds clusters, not digits; labels name them afterwards. Also unsupervised: PCA in `normalization`, a Boltzmann machine in `initialization`.",
    ),
    Item(
        "1a",
        "Normalize, standardize, zero-center, PCA, whitening, mean image",
        "X_std = (X - mean) / std",
        "normalization",
        ("min-max: condition", "standardized: condition", "PCA: condition", "whitened: condition", "digits: mean"),
        "The note's `X[:0]` is a typo for `X[:, 0]`. Scalers must be fitted to the training data only; the lecture's stock example fits them to all data (`stock`).",
    ),
    Item("1a", "Raw data lead to NaN", "cost nan after 100 steps", "normalization", ("raw, rate",)),
    Item(
        "1a",
        "Min-max scaling fixes it",
        "cost .0136869",
        "normalization",
        ("min-max, rate",),
        "The figure depends on the initial weights; at rate 1e-5 a hundred steps hardly change them.",
    ),
    Item(
        "1a",
        "Learning rate too small, right, too large",
        "5.73203 unmoved; .670909; nan",
        "learning-rates",
        ("rate 1e-10, naive loss: cost", "rate 0.1, naive loss", "rate 1.5"),
        "The NaN comes from the naive loss; with the library's cross-entropy the cost only jumps.",
    ),
    Item(
        "1a",
        "Remedies against overfitting: more data, fewer features, regularization",
        ".001 sum(W²)",
        "overfitting",
        ("no remedy", "L2", "dropout", "fewer", "ten times"),
        "AdamW's weight decay is separate from the gradient, so it is not the notes' L2 penalty; for that see `regularization`.",
    ),
    Item(
        "1a",
        "Regularization: the notes' own L2, where labels are noisy",
        ".001 sum(W²)",
        "regularization",
        ("no L2", "0.001 sum", "0.01 sum", "0.1 sum", "largest difference"),
        "Each seed has its own 500 digits, a fifth of them with random labels. .001 sum(W²) in the cost equals SGD's weight_decay"
        " .002, since its gradient is .002 W. The number of digits and the noise were chosen on seeds 100 to 104.",
    ),
    Item(
        "1a",
        "Early stopping",
        "validation set",
        "early-stopping",
        ("",),
        "`Recipe(patience_epochs=5)`: a seed stops when its validation loss has not decreased for five epochs, and ends with the"
        " weights of the lowest one. Each seed has 1,000 training and 1,000 validation digits; a fifth of the labels are random.",
    ),
    Item("1a", "Training, validation and test set", "words", "overfitting", ("five folds",)),
    Item(
        "1a",
        "Online learning: new data continue from the old weights",
        "words",
        "online",
        ("",),
        "Each new example is predicted, learned from once, and discarded. That costs a fraction of retraining and comes close to it if"
        " new data resemble the old; if they differ (5 to 9 after 0 to 4) the old are forgotten, whereas retraining keeps both.",
    ),
    Item("1a", "Epoch, batch, iterations", "N / batch; 15 epochs of 100", "mnist-softmax", ("SGD .1",)),
    Item("1a", "Batch and mini-batch: noise", "picture", "optimizers", ("all rows", "one row, constant rate")),
    Item(
        "1a",
        "XOR: one layer fails, two solve it; wide, deep",
        "lecture's code 09",
        "xor",
        ("one layer: seeds", "2-2-1: seeds", "wide, 2-10-1: seeds", "deep, 2-10-10-10-1: seeds"),
    ),
    # ---- 1b ---------------------------------------------------------------------------------------------------------
    Item("1b", "Softmax on MNIST, SGD .1, 15 epochs, N(0, 1)", ".8951", "mnist-softmax", ("SGD .1",)),
    Item("1b", "The same, rate .4, 100 epochs", ".9225", "mnist-softmax", ("SGD .4",)),
    Item("1b", "Softmax, Adam, 15 epochs", ".9035", "mnist-softmax", ("Adam",)),
    Item(
        "1b",
        "256-256 with ReLU from N(0, 1)",
        ".9455; first costs 141.2, 38.8, 24.0",
        "mnist-initializers",
        ("N(0, 1)",),
    ),
    Item("1b", "Xavier", ".9783; first costs .3015, .1073, .0649", "mnist-initializers", ("Xavier",)),
    Item("1b", "MSRA (He)", "name", "mnist-initializers", ("He",)),
    Item(
        "1b",
        "Pre-training by a Boltzmann machine",
        '"Boatman"; "about .99"',
        "initialization",
        ("200 labels",),
        "It is Boltzmann's. Well-scaled initial weights have made it obsolete.",
    ),
    Item(
        "1b",
        "Initial weights too small, too large",
        "activations 0, saturated",
        "initialization",
        ("std .01", "std 1", "Xavier", "He"),
    ),
    Item("1b", "Truncated normal", "name", "mnist-initializers", ("truncated",)),
    Item("1b", "Five layers of 512", ".9742 (lecture's code)", "mnist-deep", ("5 layers",)),
    Item(
        "1b",
        "Dropout, keep .7",
        ".9804",
        "mnist-deep",
        ("dropout .3:", "dropout .3"),
        "Dropout here is inverted, as in torch: nothing is scaled at test time. keep .7 is p = .3.",
    ),
    Item(
        "1b",
        "Dropout's mean in training and at test time; inverted dropout",
        "words",
        "dropout",
        ("keep", "one linear", "two layers"),
        "Inverted, as in torch: the remaining units are divided by keep in training, and nothing happens at test time. As first"
        " published, nothing is divided, and the weights are multiplied by keep at test time. After one linear layer, a pass at test"
        " time equals the mean over all masks (up to the sampling of masks); after a ReLU it only approximates it.",
    ),
    Item("1b", "Batch normalization before the non-linearity", ".9826 (lecture's code)", "mnist-deep", ("batch-norm",)),
    Item(
        "1b",
        "Sigmoid and ReLU, 3 and 10 layers",
        ".9421, .9587, .9431, .9300",
        "activations",
        (
            "sigmoid, 3 layers, N(0,1): test",
            "relu, 3 layers, N(0,1): test",
            "sigmoid, 10 layers, N(0,1): test",
            "relu, 10 layers, N(0,1): test",
        ),
        "With N(0, 1) the differences come from bad initial weights, not from depth: compare the same nets with a good initialization.",
    ),
    Item(
        "1b",
        "tanh, leaky ReLU, ELU, dead ReLU; maxout only as a picture",
        "words",
        "activations",
        (
            "tanh, 10 layers, xavier, 5 epochs: test",
            "leaky_relu, 10 layers, he, 5 epochs: test",
            "elu, 10 layers, he, 5 epochs: test",
            "relu, 10 layers, he, 5 epochs: share",
        ),
    ),
    Item(
        "1b",
        "TensorBoard: scalars, histograms by layer, graph, images",
        '"weights1", "biases1", "L1"',
        "activations",
        (),
        "Every run writes them: `tensorboard --logdir runs`.",
    ),
    Item(
        "1b",
        "Gradient checking; backward passes by hand",
        "local slope times the one from above",
        "gradients",
        ("gradient of (x", "sigmoid's", "ReLU's"),
    ),
    Item(
        "1b",
        "A network trained by a backward pass written by hand",
        "local slope times the one from above",
        "backward-by-hand",
        ("gradient", "cost", "trained"),
    ),
    Item(
        "1b",
        "SELU, compared with ReLU and ELU",
        "lecture's code 10-8",
        "self-normalizing",
        ("ReLU", "ELU", "SELU"),
        "SELU needs initial weights of variance 1 / inputs (LeCun's); then activations converge to standard deviation 1 from any start.",
    ),
    Item(
        "1b",
        "Monitoring training: curves, ratio of update to weight",
        "picture",
        "mnist-softmax",
        (),
        "`train/update_to_weight`, `train/gradient_norm`, `train/dead_units` are logged in every fit.",
    ),
    Item(
        "1b",
        "Before training: the first loss is log C, and ten examples are overfitted",
        "log 10; cost 0",
        "sanity-checks",
        ("2 classes", "5 classes", "10 classes", "ten", "all weights"),
        "Both checks fail where they should: for weights that are too large, and for zero weights.",
    ),
    Item("1b", "Hyperparameter search: grid and random", '"random is better"', "search", ("grid", "random", "TPE")),
    Item(
        "1b",
        "MLP: one hidden layer, five layers; memory and parameters",
        "about .92, .97; 805 992; 203 530",
        "mnist-mlp",
        ("one hidden", "five layers"),
    ),
    Item(
        "1b",
        "Its memory",
        '805 992 B, "804k"',
        "shapes",
        ("MLP 784",),
        "That counts weights without biases, plus inputs; the activations of an image take 4 200 bytes. Rounded, it is 806k, not 804k.",
    ),
    # ---- 1c ---------------------------------------------------------------------------------------------------------
    Item("1c", "SGD, momentum, Nesterov, AdaGrad, RMSProp, Adam, on a valley", "pictures", "optimizers", ("valley",)),
    Item(
        "1c",
        "Saddle points",
        '"make it meaningless"',
        "optimizers",
        ("saddle",),
        "Overstated: all of these escape it; L-BFGS, run one iteration at a time, stops on the slope beyond.",
    ),
    Item(
        "1c",
        "Second order: L-BFGS if all data fit into a batch",
        '"Adam by default; L-BFGS if full batch"',
        "optimizers",
        ("Beale",),
        '"Nesterov is useless where it is not convex" does not hold on Beale\'s function either.',
    ),
    Item(
        "1c",
        "Momentum 0, .9 and .99",
        "rho .9 or .99",
        "momentum",
        ("valley", "momentum"),
        "Momentum rho makes steps up to 1 / (1 - rho) times as long, so the learning rate must decrease as rho increases.",
    ),
    Item("1c", "Decaying learning rates", "words", "optimizers", ("one row",)),
    # ---- 1d ---------------------------------------------------------------------------------------------------------
    Item(
        "1d",
        "Output size (i - f + 2 p) / s + 1",
        "2, 2, 6, 5, 3, 7, 32; stride 3 does not fit",
        "shapes",
        ("(",),
        "All correct. If the filter does not fit, torch silently rounds down; `supervised.shapes` raises an error.",
    ),
    Item("1d", "Parameters of filters", "5 x 5 x 3 + 1 = 76, 760", "shapes", ("parameters of ten",)),
    Item(
        "1d",
        "Max and average pooling, no weights",
        "5, 3, 1 -> 3",
        "fractional-pooling",
        ("max", "average"),
        "TensorFlow's \"SAME\" on 7 -> 4 is `ceil_mode`; the lecture's PyTorch code pads instead, which gives different windows.",
    ),
    Item("1d", "Simple CNN: 32, 64, one linear layer", ".9885", "mnist-cnn-simple", ("2 convolutions",)),
    Item(
        "1d",
        "3 convolutions, 625 units, dropout",
        ".9938",
        "mnist-cnn",
        ("3 convolutions",),
        "The lecture's PyTorch version omits layer 4's ReLU and dropout, and tests on pixels in 0 to 255 after training on 0 to 1.",
    ),
    Item(
        "1d",
        "A model as a class; the layers API",
        "predict, get_accuracy, train",
        "mnist-cnn",
        (),
        "A model is a torch.nn.Module; `supervised.fit` trains it, `fit.predict` and `fit.evaluate` evaluate it.",
    ),
    Item("1d", "Ensemble", ".9952", "mnist-ensemble", ("the 5", "best CNN")),
    Item(
        "1d",
        '"CNN: 100 %"',
        "1.00",
        "mnist-ensemble",
        ("best CNN",),
        "Not reached: the best member has .9971.",
    ),
    Item(
        "1d",
        "Memory and parameters, layer by layer",
        '4 216 800; "memory 5x"',
        "shapes",
        ("3 convolutions", "parameters of the CNN"),
        "The note takes 3x3x1 for every filter, and 2048 x 2048 for the dense layer: see the table below. The correct ratio of parameters is 6.8; that of the note's incorrect counts is 20.7.",
    ),
    Item(
        "1d",
        "ImageNet's history: AlexNet, ZFNet, GoogLeNet, VGG, ResNet",
        '"VGG-16, winner of 2013"; "fast forward"; "2017 NUIST 0.61"',
        "imagenet",
        ("a trained human", "the first entry"),
        "See the table below. VGG was second in 2014, behind GoogLeNet; the winner of 2013 was Clarifai, in the line of ZFNet. .61 is"
        " the average precision of object detection, not a classification error.",
    ),
    Item(
        "1d",
        "A residual network compared with a plain one of equal depth",
        "the skip connection",
        "residual",
        ("plain", "residual"),
        "With more layers the plain network gets worse (He et al. 2016, section 1); the residual one does not.",
    ),
    Item("1d", "Fractional max pooling", "name", "fractional-pooling", ("fractional",)),
    Item("1d", "Augmentation", "words", "augmentation", ("",)),
    Item("1d", "Transfer learning", "words", "transfer", ("",)),
    Item(
        "1d",
        "Cells of the visual cortex, Neocognitron",
        "words",
        "mnist-cnn",
        (),
        "History; convolution and pooling are modeled on simple and complex cells.",
    ),
    Item(
        "1d",
        "Image captioning; visual question answering",
        "pictures",
        "caption",
        ("whole words", "characters", "seeds that"),
        "Visual question answering, a captioner with a second input, is not included. The network sees the image only at the first step (Karpathy and Fei-Fei 2015).",
    ),
    Item("1d", "The same on MNIST", "-", "caption-mnist", ("whole words", "characters", "seeds that")),
    Item(
        "1d",
        "Speed by processor",
        "105 min 31 s on an i7 to 5 min 27 s on a GTX-1080",
        "speed",
        ("cpu, 1 thread", "the notes' ratios"),
        '"8990 TFLOPS" is GFLOPS.',
    ),
    # ---- 1e ---------------------------------------------------------------------------------------------------------
    Item(
        "1e",
        "RNN, LSTM and GRU; several layers",
        '"each gate another non-linearity"',
        "sequence-shapes",
        ("gates",),
        "Three sigmoids and one tanh.",
    ),
    Item(
        "1e",
        "A cell of 4 inputs and 2 units; unfolding; batches",
        "(1, 1, 2), (1, 5, 2), (3, 5, 2)",
        "sequence-shapes",
        ("4 inputs",),
    ),
    Item(
        "1e",
        "One-to-one to sequence-to-sequence",
        "five types",
        "sequence-shapes",
        ("one-to", "many-to", "sequence-to"),
    ),
    Item("1e", "hihello", "learns it", "hihello", ("rnn", "lstm", "gru")),
    Item(
        "1e",
        "Sequence loss",
        '"the mean of accuracies as cost"',
        "hihello",
        (),
        "It is the mean cross-entropy over all positions; accuracy has no gradient.",
    ),
    Item(
        "1e", '"if you want you"', "lecture's code 12-2", "if-you-want-you", ("rnn: steps", "lstm: steps", "gru: steps")
    ),
    Item(
        "1e",
        "A long sentence, character by character",
        "lecture's code 12-4",
        "char-rnn",
        ("windows", "state", "generated", "seeds"),
    ),
    Item(
        "1e",
        "A share's price",
        "lecture's code 12-5",
        "stock",
        ("",),
        "The lecture scales by days it could not know, and does not compare with persistence. Persistence wins. Seed 0 of the LSTM on"
        " the change since today is chaotic: rounding decides its result, 12.08 dollars on an AMD processor and 19.20 on an Intel one,"
        " while seeds 1 and 2 agree to the cent. The other nine seeds have 9.77 on average.",
    ),
    Item("1e", "Truncated back-propagation", "words", "char-rnn", ("state carried",)),
    Item(
        "1e",
        "Exploding and vanishing gradients; LSTM",
        "largest singular value above 1",
        "gradients",
        ("50 factors", "rnn", "lstm", "gru"),
        "In an LSTM gradients flow through time only if the forget gate is open; torch initializes it half closed.",
    ),
    Item(
        "1e",
        "Exploding gradients, before and after clipping",
        "words",
        "clipping",
        ("not clipped", "clipped at 1"),
        "Singular values 1.3, 40 steps. A step as long as the gradient leaves the region in which the gradient is valid; clipped at 1"
        " (Pascanu et al. 2013), it keeps its direction, and its length is at most 1.",
    ),
    Item(
        "1e",
        "Applications: language, speech, translation, captions",
        "list",
        "caption",
        (),
        "The toy tasks of `sequence-shapes` and `caption` have the shapes of these applications.",
    ),
    Item(
        "0",
        "Deep Q-networks on old Atari games; AlphaGo",
        "pictures",
        "atari",
        ("return",),
        "The input is four gray frames, as in the paper. This only shows that the code runs, at 18 steps per second on two busy cores. AlphaGo, a search, is not included.",
    ),
)
