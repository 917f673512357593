"""Which types a stored estimator may be made of, by exact name and by the way skops stores them.

skops trusts a name wherever it stands in the file; here each name is allowed only in the role that it has in an
honest file: a function as a function, a container as a container. Types of subclasses, of users and of other
packages are not listed and so are refused. What is listed is either pure numpy code or is checked by
`structure` before it predicts.
"""

from __future__ import annotations


def _named(module: str, names: str) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for name in names.split())


# Weights in numpy arrays; prediction is a product, a sum and an element-wise function.
LINEAR = (
    _named("sklearn.linear_model._logistic", "LogisticRegression LogisticRegressionCV")
    | _named("sklearn.linear_model._base", "LinearRegression")
    | _named("sklearn.linear_model._ridge", "Ridge RidgeCV RidgeClassifier RidgeClassifierCV")
    | _named("sklearn.linear_model._coordinate_descent", "Lasso LassoCV ElasticNet ElasticNetCV")
    | _named("sklearn.linear_model._least_angle", "Lars LassoLars LassoLarsCV")
    | _named("sklearn.linear_model._bayes", "BayesianRidge ARDRegression")
    | _named("sklearn.linear_model._huber", "HuberRegressor")
    | _named("sklearn.linear_model._quantile", "QuantileRegressor")
    | _named("sklearn.linear_model._omp", "OrthogonalMatchingPursuit")
    | _named("sklearn.linear_model._theil_sen", "TheilSenRegressor")
    | _named("sklearn.linear_model._ransac", "RANSACRegressor")
    | _named("sklearn.linear_model._perceptron", "Perceptron")
    | _named("sklearn.linear_model._stochastic_gradient", "SGDClassifier SGDRegressor SGDOneClassSVM")
    | _named(
        "sklearn.linear_model._passive_aggressive", "PassiveAggressiveClassifier PassiveAggressiveRegressor"
    )
    | _named("sklearn.linear_model._glm.glm", "PoissonRegressor GammaRegressor TweedieRegressor")
    | _named("sklearn.svm._classes", "LinearSVC LinearSVR")
    | _named("sklearn.cross_decomposition._pls", "PLSRegression")
)

# Class statistics, layers and covariances in numpy arrays.
ARRAYS = (
    _named("sklearn.naive_bayes", "GaussianNB MultinomialNB ComplementNB BernoulliNB CategoricalNB")
    | _named("sklearn.discriminant_analysis", "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis")
    | _named("sklearn.neural_network._multilayer_perceptron", "MLPClassifier MLPRegressor")
    | _named("sklearn.gaussian_process._gpc", "GaussianProcessClassifier")
    | _named("sklearn.gaussian_process._gpc", "_BinaryGaussianProcessClassifierLaplace")
    | _named("sklearn.gaussian_process._gpr", "GaussianProcessRegressor")
    | _named("sklearn.kernel_ridge", "KernelRidge")
    | _named("sklearn.dummy", "DummyClassifier DummyRegressor")
    | _named("sklearn.isotonic", "IsotonicRegression")
    | _named("sklearn.covariance._elliptic_envelope", "EllipticEnvelope")
)

# Kernels of Gaussian processes: numbers, and formulas over numpy and scipy.
KERNELS = _named(
    "sklearn.gaussian_process.kernels",
    "RBF Matern ConstantKernel WhiteKernel RationalQuadratic ExpSineSquared DotProduct Sum Product "
    "Exponentiation CompoundKernel",
)

# libsvm reads its arrays without asking for their sizes: `structure` does.
LIBSVM = _named("sklearn.svm._classes", "SVC NuSVC SVR NuSVR OneClassSVM")

# Neighbours by label and index in compiled code: `structure` checks both, and plants search trees anew.
NEIGHBOURS = _named("sklearn.neighbors._classification", "KNeighborsClassifier") | _named(
    "sklearn.neighbors._regression", "KNeighborsRegressor"
)

# Trees follow node numbers in compiled code without a look at the bounds: `structure` looks at every node.
TREES = (
    _named(
        "sklearn.tree._classes",
        "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
    )
    | _named(
        "sklearn.ensemble._forest",
        "RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor",
    )
    | _named("sklearn.ensemble._iforest", "IsolationForest")
    | _named("sklearn.ensemble._gb", "GradientBoostingClassifier GradientBoostingRegressor")
    | _named(
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting",
        "HistGradientBoostingClassifier HistGradientBoostingRegressor",
    )
    | _named("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor")
    | _named("sklearn.ensemble._hist_gradient_boosting.binning", "_BinMapper")
)

# Losses and links of boosting and of generalised linear models: numbers and element-wise formulas.
LOSSES = _named(
    "sklearn._loss.loss",
    "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss "
    "HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss PinballLoss",
) | _named("sklearn._loss.link", "HalfLogitLink IdentityLink Interval LogitLink LogLink MultinomialLogit")

# Combinations of other estimators, each of which is checked as itself.
COMBINATIONS = (
    _named("sklearn.pipeline", "Pipeline FeatureUnion")
    | _named("sklearn.compose._column_transformer", "ColumnTransformer")
    | _named("sklearn.compose._target", "TransformedTargetRegressor")
    | _named("sklearn.ensemble._weight_boosting", "AdaBoostClassifier AdaBoostRegressor")
    | _named("sklearn.ensemble._bagging", "BaggingClassifier BaggingRegressor")
    | _named("sklearn.ensemble._voting", "VotingClassifier VotingRegressor")
    | _named("sklearn.ensemble._stacking", "StackingClassifier StackingRegressor")
    | _named("sklearn.multiclass", "OneVsRestClassifier OneVsOneClassifier _ConstantPredictor")
    | _named("sklearn.model_selection._search", "GridSearchCV RandomizedSearchCV")
    | _named(
        "sklearn.model_selection._classification_threshold",
        "FixedThresholdClassifier TunedThresholdClassifierCV",
    )
    | _named(
        "sklearn.calibration",
        "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    )
)

# Column by column in numpy. Those that give sparse output (encoders, vectorizers) are checked by `structure`.
PREPROCESSING = (
    _named(
        "sklearn.preprocessing._data",
        "StandardScaler MinMaxScaler MaxAbsScaler RobustScaler Normalizer Binarizer QuantileTransformer "
        "PowerTransformer",
    )
    | _named("sklearn.preprocessing._encoders", "OneHotEncoder OrdinalEncoder")
    | _named("sklearn.preprocessing._target_encoder", "TargetEncoder")
    | _named("sklearn.preprocessing._discretization", "KBinsDiscretizer")
    | _named("sklearn.preprocessing._polynomial", "PolynomialFeatures SplineTransformer")
    | _named("sklearn.preprocessing._function_transformer", "FunctionTransformer")
    | _named("sklearn.preprocessing._label", "LabelEncoder LabelBinarizer")
    | _named("sklearn.impute._base", "SimpleImputer MissingIndicator")
    | _named("sklearn.impute._knn", "KNNImputer")
    | _named("sklearn.impute._iterative", "IterativeImputer")
    | _named("sklearn.decomposition._pca", "PCA")
    | _named("sklearn.decomposition._truncated_svd", "TruncatedSVD")
    | _named("sklearn.decomposition._incremental_pca", "IncrementalPCA")
    | _named("sklearn.decomposition._kernel_pca", "KernelPCA")
    | _named("sklearn.preprocessing._data", "KernelCenterer")
    | _named("sklearn.decomposition._fastica", "FastICA")
    | _named("sklearn.decomposition._factor_analysis", "FactorAnalysis")
    | _named("sklearn.kernel_approximation", "Nystroem RBFSampler")
    | _named("sklearn.random_projection", "GaussianRandomProjection SparseRandomProjection")
    | _named(
        "sklearn.feature_selection._univariate_selection",
        "SelectKBest SelectPercentile SelectFpr SelectFdr SelectFwe GenericUnivariateSelect",
    )
    | _named("sklearn.feature_selection._variance_threshold", "VarianceThreshold")
    | _named("sklearn.feature_selection._from_model", "SelectFromModel")
    | _named("sklearn.feature_selection._rfe", "RFE RFECV")
    | _named("sklearn.feature_selection._sequential", "SequentialFeatureSelector")
    | _named(
        "sklearn.feature_extraction.text",
        "CountVectorizer TfidfVectorizer TfidfTransformer HashingVectorizer",
    )
    | _named("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer")
    | _named("scipy.interpolate._bsplines", "BSpline")  # made anew from its numbers
)

ESTIMATORS = (
    LINEAR | ARRAYS | LIBSVM | NEIGHBOURS | TREES | COMBINATIONS | PREPROCESSING
)  # and what they consist of

# Element-wise numpy and scipy functions, and three that only reshape or replace: a FunctionTransformer's usual
# ones. None reads or writes a file, and none takes a function.
FUNCTIONS = (
    _named(
        "numpy",
        "log log1p log2 log10 exp expm1 exp2 sqrt cbrt square absolute fabs sign negative positive reciprocal "
        "sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh deg2rad rad2deg degrees radians "
        "rint floor ceil trunc isnan isfinite signbit logical_not nan_to_num clip ravel",
    )
    | _named("scipy.special._ufuncs", "expit logit log1p expm1 cbrt exp2 exp10 log_expit")
    | _named("scipy.special._special_ufuncs", "expit logit log1p expm1 cbrt exp2 exp10 log_expit")
    # The categorical preprocessing inside HistGradientBoosting; `structure` checks that it stands there.
    | {"sklearn.utils.validation.check_array"}
    # The array constructor that a BSpline of scikit-learn carries along; it is not called.
    | {"scipy._lib.array_api_compat.numpy._aliases.asarray"}
    # The tokenizer of this package's own text models.
    | {"falcon_wsgi.models.negation.tokenize"}
)

_NUMBERS = _named(
    "numpy",
    "float16 float32 float64 int8 int16 int32 int64 intc intp uint8 uint16 uint32 uint64 bool bool_ str_",
)

# Loader of skops -> the types it may build.
BY_LOADER: dict[str, frozenset[str]] = {
    "ObjectNode": ESTIMATORS | KERNELS | LOSSES,
    "TreeNode": _named("sklearn.tree._tree", "Tree"),
    "LossNode": _named(
        "sklearn._loss._loss",
        "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss "
        "CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss "
        "CyPinballLoss",
    )
    | _named(
        "sklearn.linear_model._sgd_fast",
        "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge",
    ),
    "DictNode": frozenset({"builtins.dict", "collections.OrderedDict", "sklearn.utils._bunch.Bunch"}),
    "ListNode": frozenset({"builtins.list"}),
    "TupleNode": frozenset({"builtins.tuple", "sklearn.impute._iterative._ImputerTriplet"}),
    "SetNode": frozenset({"builtins.set"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "NdArrayNode": _NUMBERS | {"numpy.ndarray"},
    "SparseMatrixNode": _named("scipy.sparse._csr", "csr_matrix csr_array")
    | _named("scipy.sparse._csc", "csc_matrix csc_array"),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "DTypeNode": frozenset({"numpy.dtype"}),
    "TypeNode": _NUMBERS | _named("builtins", "int float str bool"),
    "PartialNode": frozenset({"functools.partial"}),
    "FunctionNode": FUNCTIONS,
}

# What only training uses, or what is made anew: left out before anything is built, whatever it holds.
LEFT_OUT = (
    # Search trees of nearest neighbours follow indices unchecked; they are planted anew from the points.
    _named("sklearn.neighbors._kd_tree", "KDTree")
    | _named("sklearn.neighbors._ball_tree", "BallTree")
    # State of optimisers and random generators of training.
    | _named("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer SGDOptimizer")
    | _named("numpy.random._generator", "Generator")
    # How a search or a threshold was scored and split, and its table of results.
    | _named("sklearn.metrics._scorer", "_Scorer _PassthroughScorer _CurveScorer _MultimetricScorer")
    | _named(
        "sklearn.model_selection._split",
        "KFold StratifiedKFold GroupKFold RepeatedKFold RepeatedStratifiedKFold ShuffleSplit "
        "StratifiedShuffleSplit TimeSeriesSplit LeaveOneOut",
    )
    | _named("sklearn.utils._metadata_requests", "MetadataRequest")
    | _named("numpy.ma", "MaskedArray")
    | _named("numpy.ma.core", "MaskedArray")
    # How columns and features were chosen; the choice itself is stored beside.
    | _named("sklearn.compose._column_transformer", "make_column_selector")
    | _named(
        "sklearn.feature_selection._univariate_selection",
        "f_classif f_regression r_regression chi2 f_oneway",
    )
    | _named("sklearn.feature_selection._mutual_info", "mutual_info_classif mutual_info_regression")
)

TRUSTED = sorted(frozenset().union(*BY_LOADER.values()))
