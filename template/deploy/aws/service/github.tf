# The role of the pipeline. GitHub Actions gets it without a stored key, in jobs of this repository that deploy to the
# environment of the same name, so the protection rules of that environment protect it.

variable "github_provider_exists" {
  description = "Whether the account already trusts GitHub. An account has one provider, which all services share."
  type        = bool
  default     = false
}

locals {
  github = "token.actions.githubusercontent.com"
  github_provider = (
    var.github_provider_exists
    ? "arn:aws:iam::${data.aws_caller_identity.current.account_id}:oidc-provider/${local.github}"
    : aws_iam_openid_connect_provider.github[0].arn
  )
  task_definitions = "arn:aws:ecs:${var.region}:${data.aws_caller_identity.current.account_id}:task-definition/${local.name}"
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.github_provider_exists ? 0 : 1
  url            = "https://${local.github}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "github_assume" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.github_provider]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github}:sub"
      values   = ["repo:${local.repository}:environment:${var.environment}"]
    }
  }
}

resource "aws_iam_role" "pipeline" {
  name               = "${local.name}-pipeline"
  assume_role_policy = data.aws_iam_policy_document.github_assume.json
}

# No more than deploy.sh and a push of an image need.
data "aws_iam_policy_document" "pipeline" {
  #checkov:skip=CKV_AWS_356:These three actions know no resource
  #checkov:skip=CKV_AWS_111:These three actions know no resource
  statement {
    actions   = ["ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition", "ecs:RegisterTaskDefinition"]
    resources = ["*"]
  }

  statement {
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages",
      "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.this.arn]
  }

  statement {
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = [aws_ecs_service.this.id]
  }

  statement {
    actions   = ["ecs:TagResource"]
    resources = ["${local.task_definitions}:*", "${local.task_definitions}-*:*"]
  }

  statement {
    actions   = ["ecs:RunTask"]
    resources = ["${local.task_definitions}-migrate:*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    actions   = ["ecs:DescribeTasks"]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    actions   = ["ssm:GetParameter", "ssm:PutParameter"]
    resources = ["arn:aws:ssm:${var.region}:${data.aws_caller_identity.current.account_id}:parameter/${local.service}/${var.environment}/*"]
  }

  statement {
    actions   = ["logs:FilterLogEvents"]
    resources = ["${aws_cloudwatch_log_group.service.arn}:*"]
  }

  statement {
    actions   = ["iam:PassRole"]
    resources = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:role/${local.name}-*"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "pipeline" {
  name   = "pipeline"
  role   = aws_iam_role.pipeline.id
  policy = data.aws_iam_policy_document.pipeline.json
}

output "pipeline_role" {
  description = "The role that the pipeline assumes; set it as AWS_ROLE in the environment of GitHub."
  value       = aws_iam_role.pipeline.arn
}
